"""What answers questions: models, recorded answers, and the durable record of what was said."""

from locvlm.predictors.ask import Answer, Predictor, ask
from locvlm.predictors.recorded import Recorded

__all__ = ["Answer", "Predictor", "Recorded", "ask"]
