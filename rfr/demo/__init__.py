"""A subreddit whose causes of karma are known, and a fake Reddit that serves it. Only the config invites it."""

import lazy_loader

# Configs name these by their room; a module is imported when one of its names is asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "oracle": ["Oracle", "OracleResidual"],
        "source": ["DemoCorpus", "DemoSource"],
        "truth": ["Truth"],
        "subreddit": ["DemoSubreddit", "KarmaModel", "TextTraps"],
    },
)
