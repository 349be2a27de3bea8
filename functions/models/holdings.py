"""What the catalogue holds about a user: nothing."""

from shared.holdings import NothingPersonal

HOLDINGS = (
    NothingPersonal("models", because="the catalogue, as the model provider offers it to everybody"),
    NothingPersonal("model_policies", because="what operators decided about models; who did stands in their own log"),
)
