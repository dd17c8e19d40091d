"""Parts that several generators share: layers, dependence penalties, latent laws, the training loop."""
