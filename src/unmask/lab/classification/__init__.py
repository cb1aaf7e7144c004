"""The task "image_classification": small pictures of several classes, for robust training on public benchmarks."""
