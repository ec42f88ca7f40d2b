"""Generated wire contract; import it through wardround.shared.codec only."""
