"""Certificate authorities: their keys and hierarchy, what they issue, what they take back."""
