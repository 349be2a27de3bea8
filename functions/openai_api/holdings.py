"""What this API holds about a user: nothing of its own. What it records of usage is declared with chat's."""

from shared.holdings import NothingPersonal

HOLDINGS = (NothingPersonal("embedding_models", because="the catalogue, as the model provider offers it to everybody"),)
