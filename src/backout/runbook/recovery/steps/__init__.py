"""Steps of restores, rescues, swaps and branches: actions with their arguments and results, by what they act on."""
