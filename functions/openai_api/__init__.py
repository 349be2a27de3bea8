"""Programs ask models here in the words of OpenAI's API."""
