"""Changes of the pool without training again: a model added from few outcomes, taken out, or priced anew."""
