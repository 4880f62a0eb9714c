"""Simulated worlds: readable queries, a real-looking price list, and every expected score and cost known."""

from proteus_router.data.synthetic.world import Sample, World, make_world

__all__ = ["Sample", "World", "make_world"]
