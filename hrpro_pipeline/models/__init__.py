"""Networks and proposals that training and inference share; they import nothing of ours but each other."""
