"""What the registers of KVM's leaves mean: pure functions and frozen values."""
