"""Streams of requests through the real gateway, without HTTP, in a world whose truth is known."""
