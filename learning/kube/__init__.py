"""Models in KubeML's form, learned from as any other; importing this needs no torch."""
