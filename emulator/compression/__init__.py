"""How payloads are encoded on their way between server and devices, and how many bytes that takes. Numpy only."""
