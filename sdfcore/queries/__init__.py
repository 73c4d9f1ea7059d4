"""What can be asked of a field: bounds of its values, and what follows from them."""
