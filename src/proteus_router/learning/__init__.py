"""Learning from recorded traffic: off-policy estimates, replay, and heads that learn from the answers that were graded."""
