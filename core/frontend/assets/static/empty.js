// Nothing: a place for scripts of the operator.
