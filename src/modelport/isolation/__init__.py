"""Work that must not share a process, or an environment, with Modelport itself."""
