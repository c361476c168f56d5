"""Chatterbox heard while it is still speaking: chunk by chunk, by several designs, as a listener experiences it."""
