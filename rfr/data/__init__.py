"""From a store to packed rows; `conf/corpus/`, `conf/preprocess/` and `conf/packing/` name the parts."""

import lazy_loader

# Configs name these by their room; a module is imported when one of its names is asked for.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "clean.cleaner": ["Clean"],
        "corpus": ["StoreCorpus"],
        "pack.long_stories": ["Drop", "Segment", "Strict"],
        "pack.packing": ["BestFit", "Off"],
        "preference_pairs": ["Pairing"],
        "prepare": ["Preprocess"],
        "split": ["Split"],
    },
)
