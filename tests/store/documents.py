"""Documents as the library's client sees them: tests look and change there, beside the product's own way."""

from typing import Any

from shared.clients import firestore_client


def there(reference: Any) -> Any:
    """The same document for the library's client, to be read, written and deleted directly."""
    return firestore_client().document(reference.path)
