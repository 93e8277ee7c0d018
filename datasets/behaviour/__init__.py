"""Who plays in the datasets of StarCraft: policies, how they are trained, and the files of those that come with the project."""
