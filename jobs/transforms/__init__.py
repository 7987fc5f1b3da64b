"""Your own Python transforms: one function, DataFrame -> DataFrame, named `module.function` in a pipeline."""
