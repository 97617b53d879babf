"""What a user can ask for, a file for each; `conf/report/` names the reports."""

import lazy_loader

# Configs name these by their room; a module is imported when one of its names is asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "chain_report": ["ChainReport"],
        "compare": ["Compare"],
        "dashboard": ["Dashboard"],
        "karma_report": ["KarmaReport"],
        "policy_report": ["PolicyReport"],
    },
)
