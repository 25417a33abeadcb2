"""Pure rules of access: who somebody is and what counts as proof."""
