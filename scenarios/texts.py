"""The texts that ship."""

from __future__ import annotations

from collections.abc import Mapping

# English is read at about 14 characters a second; each text of a set is as long as the name of the set says.
SETS: Mapping[str, tuple[str, ...]] = {
    "5s": (
        "The last ferry leaves at nine, so please be at the pier before eight.",
        "She opened the window and let the smell of rain drift into the room.",
    ),
    "10s": (
        (
            "The baker starts his ovens long before sunrise. By the time the street wakes up, "
            "the first loaves are already cooling on the shelf by the door."
        ),
        (
            "We followed the river until the path gave out. From there on it was all stones and "
            "brambles, and nobody said a word until we saw the bridge."
        ),
    ),
    "15s": (
        (
            "My grandmother kept every letter she ever received in a blue tin on top of the wardrobe. "
            "On long winter evenings she would take one out, unfold it with great care, and read it to us "
            "as if it had come that day."
        ),
        (
            "The telescope had been pointed at the same patch of sky for eleven nights in a row. On the "
            "twelfth, a faint new dot appeared near the edge of the picture, and the whole team stayed up "
            "until morning to watch it."
        ),
    ),
    "117-characters": (
        (
            "A small lamp burned in the kitchen, and beside it lay a note that said the soup was warm "
            "and the key was on its hook."
        ),
    ),
}
DEFAULT_SET = "10s"
DEFAULT_LANGUAGE = "en"
