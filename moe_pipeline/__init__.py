"""SAM-Med3D-MoE as a tool: finetune experts on a frozen foundation, forget nothing."""

__version__ = "0.1.0"
