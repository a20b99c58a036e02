"""Programs that make datasets: faces out of photographs, patches out of general pictures."""
