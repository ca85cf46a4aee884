"""What runs tell loggers: figures of each epoch, pictures at the end. The only package to name wandb."""
