"""The models on offer: the provider's catalogue, what operators decided about it, and which models a turn asks."""
