"""Before a physical arm moves: what is known of its driver and camera, what the live graph says, and where the two disagree."""
