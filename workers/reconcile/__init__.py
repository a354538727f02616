"""Finding what no delivery told of: walking what a provider lists beside what is stored."""
