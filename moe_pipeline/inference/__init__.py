"""From images and prompts to label maps."""
