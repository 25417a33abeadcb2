"""The log's rules: its tree, its signed notes, its proofs, what makes a whole log hold together."""
