"""The task "face_inpainting": latent diffusion that paints masked parts of a face anew. Lab only."""
