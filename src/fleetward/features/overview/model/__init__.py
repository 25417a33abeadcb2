"""Rules of what people are shown: cards, answers, plans. Pure."""
