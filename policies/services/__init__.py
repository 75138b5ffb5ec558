"""Everything that changes node templates and policies."""

from policies.services.policies import (
    apply_policy,
    create_policy,
    delete_policy,
    put_cluster_policy,
    rename_policy,
    restore_version,
    save_policy,
    set_mode,
    take_off,
)
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
    "apply_policy",
    "apply_template",
    "clone_template",
    "create_policy",
    "delete_policy",
    "delete_template",
    "draft",
    "import_templates",
    "put_cluster_policy",
    "rename_policy",
    "restore_version",
    "save_policy",
    "save_template",
    "set_default",
    "set_mode",
    "take_off",
    "values_of",
]
