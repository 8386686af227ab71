"""The model of claim, lease, takeover and filing, and what checks it."""
