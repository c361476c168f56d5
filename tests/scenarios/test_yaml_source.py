from __future__ import annotations

import pytest

from ttsbench.scenarios.yaml_source import DEPTH_MAX, NODES_MAX, Fault, read


def only_fault(text: str) -> Fault:
    faults = read(text).faults
    assert len(faults) == 1
    return faults[0]


def test_every_place_has_its_line() -> None:
    document = read("name: a\nstacks:\n  upstream: {}\n  lean:\n    decode: lean\nlist:\n- 1\n-\n  2\n")
    assert document.faults == []
    assert document.data == {"name": "a", "stacks": {"upstream": {}, "lean": {"decode": "lean"}}, "list": [1, 2]}
    assert document.lines == {
        (): 1,
        ("name",): 1,
        ("stacks",): 2,
        ("stacks", "upstream"): 3,
        ("stacks", "lean"): 4,
        ("stacks", "lean", "decode"): 5,
        ("list",): 6,
        ("list", 0): 7,
        ("list", 1): 9,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("25", 25),
        ("-3", -3),
        ("1_000", 1000),
        ("0x1F", 31),
        ("2.5", 2.5),
        ("-.inf", float("-inf")),
        ("on", True),
        ("no", False),
        ("~", None),
        ("", None),
        ("'25'", "25"),
        ("!!str 25", "25"),
        ("12:30", "12:30"),
        ("1:30.5", "1:30.5"),
        ("2026-11-20", "2026-11-20"),
        ("2026-99-99", "2026-99-99"),
        ("=", "="),
        ('"\\u00e9"', "é"),
    ],
)
def test_scalars_are_what_a_person_means(text: str, value: object) -> None:
    document = read(f"a: {text}")
    assert document.faults == []
    assert document.data == {"a": value}
    assert type(document.data["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "output"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "this is not YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", 2, "this is not YAML: while scanning for the next token, found character '\\t'"),
        ("a: 1\nb: 'open\n", 3, "found unexpected end of stream"),
        ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
        ("a: 1\nb: \x07\n", 2, "the character U+0007 is not allowed in YAML"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', 2, "this is not YAML"),
        ("a: *nowhere\n", 1, "found undefined alias 'nowhere'"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text: str, line: int, output: str) -> None:
    fault = only_fault(text)
    assert fault.line == line
    assert output in fault.problem
    assert read(text).data is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3\n", Fault(("a",), 3, "given twice; the first is on line 1")),
        ("x:\n  yes: 1\n", Fault(("x",), 2, "a key must be text; quote it: 'yes'")),
        ("x:\n  7: 1\n", Fault(("x",), 2, "a key must be text; quote it: '7'")),
        ("x:\n  ? [1]\n  : 1\n", Fault(("x",), 2, "a key must be text, not a list or a mapping")),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", Fault(("b",), 3, "merge keys (<<) are not read; write the keys out")),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            Fault(("a",), 1, "the Python tag !!python/object/apply:os.system is refused; "
                  "only plain YAML is read, so leave the tag out"),
        ),
        (
            "a:\n- !secret x\n",
            Fault(("a", 0), 2, "the tag !secret is unknown or does not fit here; "
                  "only plain YAML is read, so leave the tag out"),
        ),
        ("a: !!int x\n", Fault(("a",), 1, "'x' cannot be read as int; quote it if it is text")),
        ("a: 017\n", Fault(("a",), 1, "'017' cannot be read as int; quote it if it is text")),
        (
            "a: 0x8000000000000000\n",
            Fault(("a",), 1, "'0x8000000000000000' cannot be read as int; quote it if it is text"),
        ),
        ('a: "\\ud800"\n', Fault(("a",), 1, "a NUL or half of a surrogate pair is no text")),
        ('"\\0": 1\n', Fault((), 1, "a NUL or half of a surrogate pair is no text")),
    ],
)  # fmt: skip
def test_what_is_no_plain_data_is_told_with_its_line(text: str, fault: Fault) -> None:
    assert only_fault(text) == fault


def test_several_faults_are_told_together_and_the_rest_is_read() -> None:
    document = read("a: 1\na: 2\nb: !x 1\nc: 3\n")
    assert [fault.line for fault in document.faults] == [2, 3]
    assert document.data == {"a": 1, "b": None, "c": 3}
    assert document.spoiled == {("b",)}


def test_aliases_are_unfolded() -> None:
    assert read("a: &x [1, 2]\nb: *x\n").data == {"a": [1, 2], "b": [1, 2]}


def test_an_alias_bomb_is_refused() -> None:
    bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(5))
    assert f"unfold into more than {NODES_MAX:,} values" in only_fault(bomb).problem


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {x: {y: *a}}\n"])
def test_an_alias_to_itself_is_refused(text: str) -> None:
    fault = only_fault(text)
    assert fault.line == 1
    assert "one may hold itself" in fault.problem


def test_depth_and_size_are_bounded() -> None:
    assert f"nested more than {DEPTH_MAX} deep" in only_fault("a: " + "[" * 100_000).problem
    assert f"more than {NODES_MAX:,} values" in only_fault("a:\n" + "- x\n" * NODES_MAX).problem
    assert "cannot be read as int" in only_fault("a: " + "9" * 100_000).problem
    assert "cannot be read as int" in only_fault("a: 0x" + "F" * 100_000).problem


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n", "---\n", "~"])
def test_nothing_is_nothing(text: str) -> None:
    document = read(text)
    assert document.data is None
    assert document.faults == []
