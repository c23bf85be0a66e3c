"""The parts that optimizers are made of: a file holds one Protocol and its policies, named for what they decide."""
