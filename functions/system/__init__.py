"""What the product says about itself: health and the API document."""
