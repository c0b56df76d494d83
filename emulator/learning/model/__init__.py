"""The model that is trained: loading, the shared pass of many devices, and what makes it cheap."""
