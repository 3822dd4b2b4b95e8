"""The learned half: what the arm sees, what its actions lead to, and how far a goal is."""
