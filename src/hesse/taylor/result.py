"""What `minimize` found: SciPy's result, which shows itself."""

from scipy.optimize import OptimizeResult

from hesse.display import Display, Displayed, facts


class Minimum(Displayed, OptimizeResult):
    """SciPy's result of a minimisation, a dictionary whose entries are attributes; made by
    `hesse.minimize`, which says what they are."""

    def _display(self) -> Display:
        counts = {"nit": "iterations", "nfev": "evaluations", "nhev": "Hessians or products"}
        counted = [f"{self[name]:,} {word}" for name, word in counts.items() if name in self]
        numbers = {"J": self.get("fun"), "‖g‖∞": abs(self["jac"]).max(initial=0.0)}
        certificates = [str(each) for each in self.get("certificates", ())]
        ended = "reached" if self.get("success") else "not reached"
        return Display(
            "Minimum",
            f"{self.get('method')}, {ended}: {self.get('cost')}",
            facts(
                **{label: f"{number:.6g}" for label, number in numbers.items()},
                message=self.get("message"),
                work=", ".join(counted),
                certificates="\n".join(certificates),
            ),
            next=("result.parameters", "result.cost", "hesse.minimize(cost, start=result)"),
        )
