"""What the tests share: activations in closed form, problems with known answers, error scales, an independent flow."""
