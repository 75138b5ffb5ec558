"""Everything that changes node templates and policies."""

from policies.services.templates import (
    apply_template,
    clone_template,
    delete_template,
    draft,
    import_templates,
    save_template,
    set_default,
    values_of,
)

__all__ = [
    "apply_template",
    "clone_template",
    "delete_template",
    "draft",
    "import_templates",
    "save_template",
    "set_default",
    "values_of",
]
