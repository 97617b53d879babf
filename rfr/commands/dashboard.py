"""`report=dashboard`: saves a W&B workspace that compares runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from rfr.errors import UserError

STEP, TOKENS, TAKEN = "trainer/global_step", "tokens", "optimizer_steps"


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """The report that needs no model, but a W&B account.

    Args:
        project: the W&B project that `logger.wandb.project` names.
        entity: user or team; null: your default one in W&B.
        name: the name of the view. A view that is saved again is a second view of this name.
        group: a sweep: only its runs are shown.
    """

    project: str
    entity: str | None = None
    name: str = "rfr"
    group: str | None = None

    def run(self) -> None:
        """Save it and print its address.

        Raises:
            UserError: not logged in, or the package is missing.
        """
        import wandb

        if not wandb.login(prompt=False, verify=False):
            raise UserError("a dashboard is kept on W&B: log in first (wandb login)")
        os.environ.setdefault("WANDB_SILENT", "true")
        entity = self.entity or wandb.Api().default_entity
        print(_workspace(self, str(entity)).save().url)


def _workspace(about: Dashboard, entity: str) -> Any:
    try:
        import wandb_workspaces.workspaces as ws
    except ModuleNotFoundError as error:
        raise UserError("a dashboard needs wandb-workspaces: pip install 'rfr[dashboard]'") from error
    runs = ws.RunsetSettings(filters=f"Group = '{about.group}'") if about.group else ws.RunsetSettings()
    settings = ws.WorkspaceSettings(x_axis=STEP, max_runs=100)
    return ws.Workspace(
        entity=entity, project=about.project, name=about.name, sections=sections(), runset_settings=runs, settings=settings
    )


def sections() -> list[Any]:
    """Losses by schedule, rates, what each reward is worth, and whether the runs were well."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    def lines(title: str, y: str, x: str = STEP, by: str | None = None) -> Any:
        plot: dict[str, Any] = {"title": title, "x": x, "y": [y], "max_runs_to_show": 100}
        together = {"groupby": wr.Config(f"chosen.{by}"), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
        return wr.LinePlot(**plot | together if by else plot)

    def bars(title: str, figure: str, by: str) -> Any:
        return wr.BarPlot(
            title=title, metrics=[figure], groupby=wr.Config(f"chosen.{by}"), groupby_aggfunc="mean", groupby_rangefunc="stddev"
        )

    settings = ("optimizer.lr", "chosen.schedule", "chosen.reward", "chosen.objective")
    axes = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), log=key == "optimizer.lr") for key in settings]
    axes.append(wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric("val/nll_per_token")))
    together = wr.ParallelCoordinatesPlot(title="settings and what came of them", columns=axes)
    panels_of = {
        "Loss by schedule": [
            lines("held-out loss by schedule", "val/nll_per_token", by="schedule"),
            lines("training loss by schedule", "train/loss", by="schedule"),
            lines("held-out loss over tokens", "val/nll_per_token", x=TOKENS, by="schedule"),
        ],
        "Learning rates": [lines("learning rate", "lr"), lines("over the steps that were taken", "lr", x=TAKEN)],
        "What a reward is worth": [
            bars("true quality by reward (demo)", "quality", "reward"),
            bars("held-out loss by reward", "val/nll_per_token", "reward"),
            bars("ESS/N by objective", "weights/ess", "objective"),
            together,
        ],
        "Own stories": [
            lines("judge's score on held-out prompts", "held_out/score"),
            lines("watch judge's score on held-out prompts", "held_out/watch"),
            lines("true quality on held-out prompts (demo)", "held_out/quality"),
            lines("KL from the start policy (nats a story)", "held_out/kl"),
            lines("tokens a story", "held_out/length"),
            lines("share of stories cut off", "held_out/cut_off"),
            lines("spread of the score within a prompt", "round/score_spread"),
            lines("ESS/N within prompts", "round/ess_within_prompts"),
            lines("self-BLEU", "round/self_bleu"),
        ],
        "Health": [
            lines("gradient norm before clipping", "grad_norm"),
            lines("useful tokens per second", "tokens_per_second"),
            lines("memory (GiB)", "memory_gib"),
        ],
    }
    return [ws.Section(name=name, panels=panels, is_open=True) for name, panels in panels_of.items()]
