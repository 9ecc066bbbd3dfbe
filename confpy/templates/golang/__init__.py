"""confd's templates: Go's text/template, parsed, translated into Jinja's tree, and what they call while they run."""
