"""What is attacked: recognisers and detectors over pictures in [0, 1], with gradients where there are any. Lab only."""
