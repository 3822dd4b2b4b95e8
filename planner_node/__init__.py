"""The deciding half: plans by searching imagined futures, and guards what reaches the joints."""
