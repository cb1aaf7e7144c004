"""Files become pixels: pictures, videos, folders, standard input; hashes at intake; typed refusals."""
