"""Critics: what makes one imagined future better than another. `planner_node.assembly` chooses them, `planner_node.objective` sums them."""
