"""Parts that optimizers share; most files hold one Protocol and the classes that implement it."""
